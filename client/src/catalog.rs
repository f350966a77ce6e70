//! CatalogService: what is registered.
//!
//! Every call that changes something carries a request id, so that it is safe to repeat after a
//! connection broke.

mod create;
mod delete;
mod edit;
mod get;
mod list;
#[cfg(test)]
mod spec_fields;
mod update;

pub use self::{
    create::CreateModel,
    delete::DeleteModel,
    edit::EditModel,
    get::{Freshness, GetModel, GetModelIfChanged},
    list::{ListModels, ModelStream},
    update::UpdateModel,
};
use crate::{client::Client, v1::ModelSpec};

impl Client {
    /// Registers a model. It is not loaded.
    ///
    /// ```no_run
    /// # async fn example(client: hangar_client::Client) -> Result<(), hangar_client::Error> {
    /// use hangar_client::v1::{ModelSpec, model_source::Source};
    ///
    /// let source = Source::Path("/models/qwen".to_owned());
    /// let spec = ModelSpec { source: Some(source.into()), preload: true, ..Default::default() };
    /// let model = client.create_model("qwen", spec).alias("chat").send().await?;
    /// println!("{} version {}", model.model_id, model.version);
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_model(&self, model_id: impl Into<String>, spec: ModelSpec) -> CreateModel {
        CreateModel::new(self.clone(), model_id.into(), spec)
    }

    /// Gives the entry of a model, by its id or an alias, with the etag that changes of it need.
    pub fn get_model(&self, model_id: impl Into<String>) -> GetModel {
        GetModel::new(self.clone(), model_id.into())
    }

    /// Lists what is registered.
    ///
    /// ```no_run
    /// # async fn example(client: hangar_client::Client) -> Result<(), hangar_client::Error> {
    /// let mut models = client.list_models().label("team", "search").stream();
    /// while let Some(model) = models.next().await {
    ///     println!("{}", model?.model_id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list_models(&self) -> ListModels {
        ListModels::new(self.clone())
    }

    /// Changes fields of an entry that the caller has seen: needs its etag.
    ///
    /// ```no_run
    /// # async fn example(client: hangar_client::Client) -> Result<(), hangar_client::Error> {
    /// let model = client.get_model("qwen").send().await?;
    /// client.update_model("qwen").etag(model.etag).temperature(0.2).max_queue(16).send().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn update_model(&self, model_id: impl Into<String>) -> UpdateModel {
        UpdateModel::new(self.clone(), model_id.into())
    }

    /// Reads an entry, changes it, and writes what changed; anew when somebody else was faster.
    ///
    /// ```no_run
    /// # async fn example(client: hangar_client::Client) -> Result<(), hangar_client::Error> {
    /// let edited = client.edit_model("qwen").send(|model| {
    ///     let spec = model.spec.get_or_insert_default();
    ///     spec.priority += 1;
    ///     spec.labels.insert("team".to_owned(), "search".to_owned());
    /// });
    /// if edited.await?.is_some_and(|response| response.reload_required) {
    ///     client.load("qwen").force_reload().wait().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn edit_model(&self, model_id: impl Into<String>) -> EditModel {
        EditModel::new(self.clone(), model_id.into())
    }

    /// Removes an entry with its aliases and all that was learned about the model.
    pub fn delete_model(&self, model_id: impl Into<String>) -> DeleteModel {
        DeleteModel::new(self.clone(), model_id.into())
    }
}
